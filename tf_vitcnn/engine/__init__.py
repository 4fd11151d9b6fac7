"""A request driven to its tables: checked, planned, computed step by step, resumed after a kill."""
