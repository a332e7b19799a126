//! Kinesis, DynamoDB and CloudWatch on one endpoint: a library, an in-process HTTP client, a server.
//!
//! There are three ways in:
//!
//! * **The AWS SDK in the same process**: [`Emulator::sdk_config`] configures the SDK's clients so that
//!   their requests go to the emulator without a socket, in tokio's time. Under a paused runtime minutes
//!   pass in milliseconds and every run is alike:
//!
//! ```
//! # use kcl_emulator::Emulator;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let emulator = Emulator::new();
//! emulator.create_stream("orders", 4)?;
//! let client = aws_sdk_kinesis::Client::new(&emulator.sdk_config("my-test"));
//! let shards = client.list_shards().stream_name("orders").send().await?;
//! assert_eq!(shards.shards().len(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! * **A server**: [`Emulator::serve`], or the program `kcl-emulator --port 4567`, for clients in other
//!   processes and languages. HTTP/1.1 and HTTP/2 without TLS, JSON and CBOR. There is no authentication:
//!   a caller is whoever its access key id says.
//! * **The engines themselves**: [`Emulator::kinesis`] and [`Emulator::dynamodb`], or [`kinesis::Engine`]
//!   and [`dynamodb::DynamoDb`], for simulations that bring their own time. They ask
//!   [`faults::Faults::plan`] how a request fares and act on it in that time.
//!
//! What goes wrong is decided by [`faults`]; what is in a stream, [`Emulator::records`] tells; who called
//! what, [`Emulator::calls`].

mod activity;
mod caller;
mod calls;
mod clock;
pub mod cloudwatch;
pub mod dynamodb;
mod emulator;
mod error;
pub mod faults;
mod front;
mod in_process;
pub mod kinesis;
mod request_id;
mod server;
mod service;
mod settings;
mod tasks;
mod time;
mod wire;

pub use caller::Caller;
pub use calls::{CallKey, Calls};
pub use clock::Clock;
pub use emulator::Emulator;
pub use error::ApiError;
pub use front::{Body, ConnectionLost};
pub use service::Service;
pub use settings::Builder;
pub use time::Timestamp;
