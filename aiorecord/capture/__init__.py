"""One live episode: its rows and cameras, their queues and threads, and the journal that keeps them."""
