"""A1111's prompt language as pure text: styles, comments, networks, AND, editing, attention, tokens and chunks, in this order; every reader is linear and none recurses."""
