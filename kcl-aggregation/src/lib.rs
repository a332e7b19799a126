//! The KPL aggregated record format, both ways, without copying payloads.
