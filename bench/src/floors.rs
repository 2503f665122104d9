//! What the least would cost: the same work on the same servers without the product.

pub mod append;
pub mod broker;
pub mod bulk;
pub mod fan_out;
pub mod read;
pub mod streams;
