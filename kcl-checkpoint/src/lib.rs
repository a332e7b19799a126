//! Positions in a Kinesis shard and the rules for moving a checkpoint.
