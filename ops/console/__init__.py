"""Pages for people: rendered here, live by server-sent events, without anything from the network."""
