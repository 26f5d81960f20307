"""What tests share: studies made by hand, servers, the command line."""
