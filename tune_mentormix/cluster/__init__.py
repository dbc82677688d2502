"""Ray clusters.

`connection` starts Ray on this machine or joins a cluster, `resources` counts how many trials fit, `preflight`
checks every node before trials are sent there, and `images` has images that stay on disk decoded there. `jobs` runs
searches as jobs of a shared cluster and keeps a record of each; `jobs_api` talks to the cluster's Jobs API.
"""
