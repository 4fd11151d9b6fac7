"""Where single images' tokens attend, over the photographs."""
