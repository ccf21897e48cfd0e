"""What a version brings for a gateway that searches by words while no model server answers."""
