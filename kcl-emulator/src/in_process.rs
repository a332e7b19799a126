//! The AWS SDK wired to the emulator inside one process: no socket, no thread, virtual time.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use aws_types::region::Region;
use http::{HeaderValue, header};
use http_body_util::BodyExt;

use crate::{ConnectionLost, Emulator};

impl Emulator {
    /// A complete configuration for the clients of the AWS SDK: they call this emulator in the same
    /// process, live in its time and appear to it as `caller`.
    ///
    /// It works in any tokio runtime; under a paused one everything is in virtual time. (Do not mix a
    /// paused runtime with real sockets: its clock runs ahead while they wait.)
    #[must_use]
    pub fn sdk_config(&self, caller: &str) -> SdkConfig {
        let credentials = Credentials::new(caller, "secret", None, None, "kcl-emulator");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.region().to_owned()))
            .endpoint_url("http://emulator.invalid")
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.http_client(caller))
            .sleep_impl(TokioSleep::new())
            .time_source(self.clock().clone())
            .build()
    }

    /// An HTTP client for the AWS SDK whose requests go to this emulator in the same process. The
    /// emulator sees them as `caller`, whoever signed them.
    #[must_use]
    pub fn http_client(&self, caller: &str) -> SharedHttpClient {
        let emulator = self.clone();
        let caller = caller.to_owned();
        http_client_fn(move |settings: &HttpConnectorSettings, _| {
            SharedHttpConnector::new(Connector {
                emulator: emulator.clone(),
                authorization: authorization(&caller),
                read_timeout: settings.read_timeout(),
            })
        })
    }
}

/// The header by which the emulator knows its caller.
fn authorization(caller: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("AWS4-HMAC-SHA256 Credential={caller}/in-process")).ok()
}

#[derive(Debug, Clone)]
struct Connector {
    emulator: Emulator,
    authorization: Option<HeaderValue>,
    read_timeout: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new_boxed(Box::pin(async move {
            let timeout = connector.read_timeout;
            let answer = connector.send(request);
            match timeout {
                None => answer.await,
                Some(limit) => tokio::time::timeout(limit, answer)
                    .await
                    .unwrap_or_else(|elapsed| Err(ConnectorError::timeout(elapsed.into()))),
            }
        }))
    }
}

impl Connector {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = request
            .try_into_http1x()
            .map_err(|error| ConnectorError::user(error.into()))?;
        let (mut parts, body) = request.into_parts();
        if let Some(authorization) = self.authorization {
            parts.headers.insert(header::AUTHORIZATION, authorization);
        }
        let body = body.collect().await.map_err(ConnectorError::io)?;
        let request = http::Request::from_parts(parts, body.to_bytes());
        let latency = self.emulator.latency();
        let answer = self.emulator.respond_after(request, latency).await;
        let answer = answer.map_err(connection_reset)?;
        HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

fn connection_reset(lost: ConnectionLost) -> ConnectorError {
    let error = std::io::Error::new(std::io::ErrorKind::ConnectionReset, lost);
    ConnectorError::io(error.into())
}
