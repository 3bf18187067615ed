"""The other side: Key Administrator (KA), the only caller of the ISV endpoint, as a client, a judge and a player."""
