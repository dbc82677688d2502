"""One trial: data, network and MentorMix training. Nothing here knows of a search; only `mentormix` imports Ray.

An epoch: `mentormix.MentorMixTrainable.step` calls `training.Trainer.train_epoch`, which shuffles the images that
`data.load_dataset` loaded and `device.DeviceDataset` keeps on the device as uint8, or `batches` reads from disk. Each
batch is augmented
(`augment`) and goes to `objective`: the network (`models`) computes losses, a mentor (`mentors`) turns them into
weights, `step` samples partners and mixes, and the loss of the mixtures comes back. The trainer makes the optimizer
step at the rate of `schedules`, updates the EMA of the weights, and after the last batch evaluates on the validation
images. The metrics go to Ray Tune, the state to a folder (`checkpoint`). A finished network is used through
`model_file` and `inference`.

Importing this package, `settings`, `data` or `files` imports neither torch nor Ray.
"""
