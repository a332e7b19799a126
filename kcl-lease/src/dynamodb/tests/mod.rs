//! DynamoDB through the emulator, in process and in virtual time.

mod expressions;
mod failures;
mod property;
mod schema;

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use kcl_emulator::Emulator;

use super::{DynamoDbLeaseTable, DynamoDbOptions};
use crate::conformance;

const OPTIONS: DynamoDbOptions = DynamoDbOptions {
    call_timeout: Duration::from_secs(2),
    prepare_timeout: Duration::from_secs(30),
};

fn client(emulator: &Emulator) -> Client {
    Client::new(&emulator.sdk_config("worker"))
}

fn table(emulator: &Emulator) -> DynamoDbLeaseTable {
    DynamoDbLeaseTable::new(&client(emulator), "leases", OPTIONS)
}

#[tokio::test(start_paused = true)]
async fn it_does_what_every_lease_table_must() {
    conformance::check_all(&table(&Emulator::new())).await;
}
