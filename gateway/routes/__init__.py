"""What each address does: request -> command -> ask -> answer."""
