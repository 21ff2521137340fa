"""Parts without a subject of the product: they know no app and no Django view."""
