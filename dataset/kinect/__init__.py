"""Skeletons of Kinect v2 with their published splits: NTU RGB+D 60 and 120, PKU-MMD. Numpy and h5py alone, no body."""
