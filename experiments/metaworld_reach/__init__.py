"""One Meta-World task alone: does the SAC loop learn what single-task SAC is known to learn?"""
