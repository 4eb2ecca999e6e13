"""A synthetic renal CT cohort: physiology, anatomy, scanner and DICOM, with every voxel's tissue known."""
