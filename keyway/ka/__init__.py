"""The other side: Key Administrator (KA), the only caller of the ISV endpoint, as a client, a judge and a player.

Beside it stand what a demonstration needs of others: a system on the public topics, and the sandbox panel's books.
"""
