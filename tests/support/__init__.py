"""What the tests share: an assembler over the instruction tables, random programs, and outside simulators."""
