//! The least that anybody can do: answers come over HTTP and are thrown away.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::super::answers::iterator;
use super::super::consumer::{ConsumerOptions, Consumption};
use super::super::null_kinesis;
use super::{Ended, for_each_shard};

pub(crate) async fn run(consumption: &Consumption, shards: usize) -> Ended {
    for_each_shard(&consumption.runtime, shards, |shard| {
        read(consumption.clone(), shard)
    })
    .await
}

async fn read(consumption: Consumption, shard: usize) -> Ended {
    let options = &consumption.options;
    let host = options.endpoint.trim_start_matches("http://");
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let _connection = consumption.runtime.spawn(connection);
    let limit = usize::from(options.limit);
    let users = limit * options.users;
    for answer in 0_u64.. {
        consumption.gate.pass().await;
        let from = answer * u64::from(options.limit);
        let body = call(&mut sender, options, &iterator(shard, from)).await?;
        // The size of users' data is not known here; the bytes that came are what is counted.
        consumption.tally.add(users, body.len());
    }
    Ok(())
}

async fn call(
    sender: &mut SendRequest<Full<Bytes>>,
    options: &ConsumerOptions,
    iterator: &str,
) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let (content_type, body) = null_kinesis::request(options.wire(), iterator, options.limit);
    let request = Request::post("/")
        .header("host", "localhost")
        .header("content-type", content_type)
        .header("x-amz-target", "Kinesis_20131202.GetRecords")
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}
