"""Floor 0: rigid transforms, lenses and rigs, skeletons, the clock, the stage runner, atomic files, errors."""
