//! Answers with records that come damaged.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use kcl_emulator::Emulator;

/// An answer or event is damaged if it is larger than one without records.
const WITH_RECORDS: usize = 600;
/// So many are.
const DAMAGES: usize = 6;

/// The configuration of a caller who gets some of his answers damaged.
pub(super) fn some_answers(emulator: &Emulator, caller: &str) -> SdkConfig {
    let client = emulator.http_client(caller);
    let damages = Arc::new(AtomicUsize::new(0));
    let client = http_client_fn(move |settings: &HttpConnectorSettings, components| {
        SharedHttpConnector::new(Damaging {
            emulator: client.http_connector(settings, components),
            damages: Arc::clone(&damages),
        })
    });
    let aws = emulator.sdk_config(caller).into_builder();
    aws.http_client(client).build()
}

#[derive(Debug)]
struct Damaging {
    emulator: SharedHttpConnector,
    damages: Arc<AtomicUsize>,
}

impl HttpConnector for Damaging {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let has_records = target.ends_with(".GetRecords") || target.ends_with(".SubscribeToShard");
        let answer = self.emulator.call(request);
        if !has_records {
            return answer;
        }
        let damages = Arc::clone(&self.damages);
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            if answer.status().is_success() {
                let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
                answer.headers_mut().remove("content-length");
                let damaged = Damaged {
                    body,
                    damages,
                    is_over: false,
                };
                *answer.body_mut() = SdkBody::from_body_1_x(damaged);
            }
            Ok(answer)
        })
    }
}

/// A body of which every second large piece is damaged, until there were enough.
struct Damaged {
    body: SdkBody,
    damages: Arc<AtomicUsize>,
    is_over: bool,
}

impl Body for Damaged {
    type Data = Bytes;
    type Error = aws_smithy_runtime_api::box_error::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        let mut data = frame.into_data().unwrap_or_default().to_vec();
        let nth = match data.len() >= WITH_RECORDS {
            true => self.damages.fetch_add(1, Ordering::SeqCst),
            false => usize::MAX,
        };
        if nth < 2 * DAMAGES && nth.is_multiple_of(4) {
            data.truncate(data.len() - 20);
            self.is_over = true;
        } else if nth < 2 * DAMAGES && nth.is_multiple_of(2) {
            let middle = data.len() / 2;
            data[middle] = 0xff;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(data)))))
    }
}
