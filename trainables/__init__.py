"""What happens inside one trial: data, noise, network, the MentorMix step, training.

Nothing here knows of a search; only `trainables.mentormix` imports Ray. Importing this package, or
`trainables.settings`, imports neither torch nor Ray.
"""
