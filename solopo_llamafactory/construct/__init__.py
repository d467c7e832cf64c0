"""`solopo build`: preference pairs with a short and a long context, from questions, documents and sampled answers."""
