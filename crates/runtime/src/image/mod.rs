//! Images: names, documents, the store, archives, registries.

pub mod archive;
pub mod manifest;
pub mod reference;
pub mod store;
pub mod unpack;
pub mod users;
