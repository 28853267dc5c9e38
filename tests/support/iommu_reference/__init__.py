"""The RISC-V IOMMU checked against the specification's own reference model.

`cases` draws directories, page tables and requests from a seed; `reference` plays them on the model, `ours` on
Wirt; `python -m tests.support.iommu_reference --help` runs both side by side, or writes the vectors that the test suite
plays where the model is not at hand.
"""
