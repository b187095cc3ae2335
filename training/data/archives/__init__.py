"""The feature archives that the papers' authors and the datasets' makers released, each turned into a store."""
