"""Questions with their documents, and contexts of a wanted length made from them."""
