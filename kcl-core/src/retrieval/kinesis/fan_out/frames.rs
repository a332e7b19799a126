//! The frames of a subscription, watched as they pass: how large they may be, and whether one is on its way.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

/// No event is larger: 10 MiB of payloads in base64, and keys, numbers and names. The SDK collects a frame of any length that is
/// announced.
const LARGEST: u32 = 32 << 20;
/// The length of a frame, itself included, is in its first bytes.
const LENGTH_BYTES: u32 = 4;

/// A frame that no service sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes is announced, and no event takes more than {LARGEST}")]
pub(super) struct TooLarge(u32);

/// Where in a frame a stream of bytes is.
#[derive(Debug, Default)]
struct Frames {
    /// Of the length of the frame that begins: as many bytes as came, and what they say.
    begun: u32,
    length: u32,
    /// What is to come of the frame whose length is known.
    rest: usize,
}

impl Frames {
    fn pass(&mut self, mut data: &[u8]) -> Result<(), TooLarge> {
        while let Some((first, others)) = data.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(data.len());
                self.rest -= passed;
                data = data.get(passed..).unwrap_or_default();
                continue;
            }
            self.length = self.length << 8 | u32::from(*first);
            self.begun += 1;
            data = others;
            if self.begun == LENGTH_BYTES {
                let Self { length, .. } = std::mem::take(self);
                if length > LARGEST {
                    return Err(TooLarge(length));
                }
                self.rest = length.saturating_sub(LENGTH_BYTES) as usize;
            }
        }
        Ok(())
    }

    fn is_within(&self) -> bool {
        self.begun > 0 || self.rest > 0
    }
}

/// Knows whether a part of an event came on a subscription.
#[derive(Debug, Clone, Default)]
pub(super) struct Arrival(Arc<AtomicBool>);

impl Arrival {
    pub(super) fn is_within_event(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for Arrival {
    fn name(&self) -> &'static str {
        "Arrival"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        // Errors have no frames.
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::taken());
            *response.body_mut() = SdkBody::from_body_1_x(Watched {
                body,
                frames: Frames::default(),
                arrival: self.clone(),
            });
        }
        Ok(())
    }
}

/// Gives everything on as it comes.
#[derive(Debug)]
struct Watched {
    body: SdkBody,
    frames: Frames,
    arrival: Arrival,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let data = frame.data_ref().map(AsRef::as_ref).unwrap_or_default();
            if let Err(error) = this.frames.pass(data) {
                this.body = SdkBody::empty();
                return Poll::Ready(Some(Err(error.into())));
            }
            let within = this.frames.is_within();
            this.arrival.0.store(within, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: u32) -> Vec<u8> {
        let mut frame = length.to_be_bytes().to_vec();
        frame.resize(length as usize, 0xff);
        frame
    }

    #[test]
    fn cut_at_every_byte_frames_are_told_apart() {
        let whole = [frame(16), frame(300), frame(16)].concat();
        let ends = [16, 316, 332];
        for cut in 0..=whole.len() {
            let mut frames = Frames::default();
            frames.pass(&whole[..cut]).unwrap();
            assert_eq!(frames.is_within(), cut > 0 && !ends.contains(&cut), "{cut}");
            frames.pass(&whole[cut..]).unwrap();
            assert!(!frames.is_within(), "{cut}");
        }
    }

    #[test]
    fn a_frame_that_no_service_sends_is_refused_before_it_comes() {
        let mut frames = Frames::default();
        frames.pass(&frame(16)).unwrap();
        assert_eq!(frames.pass(&LARGEST.to_be_bytes()), Ok(()));
        let more = (LARGEST + 1).to_be_bytes();
        assert_eq!(Frames::default().pass(&more), Err(TooLarge(LARGEST + 1)));
        // Lengths that cannot be are the SDK's to refuse.
        for length in 0..4_u32 {
            Frames::default().pass(&length.to_be_bytes()).unwrap();
        }
    }
}
