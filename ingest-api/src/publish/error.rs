//! Why an event was not accepted.

/// Why an event was not accepted. It may have been stored all the same when it `timed out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishError {
    /// No acknowledgement in time: NATS is away or overloaded.
    TimedOut,
    /// The stream is at its byte limit, or NATS at its disk limit.
    Full,
    /// Too much is waiting to be published already.
    QueueFull,
    /// The service is stopping.
    Stopping,
}

impl PublishError {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::TimedOut, Self::Full, Self::QueueFull, Self::Stopping];

    /// Its name in metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TimedOut => "timed_out",
            Self::Full => "stream_full",
            Self::QueueFull => "queue_full",
            Self::Stopping => "stopping",
        }
    }
}
