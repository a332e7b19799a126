//! End-to-end tests of the framework on the bundled emulator.
