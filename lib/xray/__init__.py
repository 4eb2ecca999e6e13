"""Radiographs of simulated patients: beam, detector, chest with pneumothorax, dental plates with artifacts, DICOM."""
