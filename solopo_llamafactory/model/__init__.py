"""One row through the network: attention over spans, log-probs, what a model can take, memory."""
