//! fastnode.
