"""Data construction: from documents and questions to preference pairs with a short and a long context.

The way of the data: source -> synthesize (contexts within token budgets) -> responses -> one JSON object a line.
"""
