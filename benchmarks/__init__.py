"""Speed and accuracy side by side with other runtimes and detectors, on the machine at hand."""
