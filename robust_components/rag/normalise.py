from robust_components.answers import *  # noqa: F403
