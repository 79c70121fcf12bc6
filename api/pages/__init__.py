"""HTML pages, and the images in them."""
