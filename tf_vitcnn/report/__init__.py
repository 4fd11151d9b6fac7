"""Tables, verdicts and figures on one page that opens without a network."""
