//! The options of the server.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Kinesis, DynamoDB and CloudWatch on one local endpoint.
///
/// Point a client at it with AWS_ENDPOINT_URL and any credentials. Everything is kept in memory. When it
/// is ready it prints one line with its URL; SIGINT and SIGTERM stop it.
#[derive(Debug, Parser)]
#[command(name = "kcl-emulator", version)]
pub(crate) struct Options {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 4567)]
    port: u16,

    /// The address to listen on; other than loopback needs --expose.
    #[arg(long, default_value = "127.0.0.1", value_parser = parse_host)]
    host: IpAddr,

    /// Allow an address that other machines reach. There is no authentication: whoever reaches it can
    /// read and change every stream and table.
    #[arg(long)]
    expose: bool,

    /// Create a stream at start; may be given several times.
    #[arg(long, value_name = "NAME:SHARDS")]
    pub(crate) create_stream: Vec<StreamToCreate>,

    /// Enforce the limits of shards (1 MiB/s and 1,000 records/s in, 2 MiB/s and 5 reads/s out) and of
    /// provisioned tables, as the services do.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub(crate) throttling: Switch,

    /// How long streams, consumers and table indexes stay in CREATING, UPDATING and DELETING.
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) transition: Duration,

    /// How long tables stay in CREATING, UPDATING and DELETING. At once by default: the waiters of the
    /// AWS SDKs look again only after 20 seconds, so that applications would start slowly.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    pub(crate) table_transition: Duration,

    /// Inject the faults of this JSON file, for example {"rules": [{"operation": "GetRecords",
    /// "probability": 0.1, "fault": {"action": "aws:fis:inject-api-internal-error"}}]}.
    #[arg(long, value_name = "FILE")]
    pub(crate) faults: Option<PathBuf>,

    /// The seed by which faults with a probability are drawn.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// The region in ARNs.
    #[arg(long, default_value = "us-east-1")]
    pub(crate) region: String,

    /// The account in ARNs, twelve digits.
    #[arg(long, default_value = "000000000000", value_parser = parse_account)]
    pub(crate) account_id: String,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// A stream of `--create-stream`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamToCreate {
    pub(crate) name: String,
    pub(crate) shards: u32,
}

impl FromStr for StreamToCreate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .rsplit_once(':')
            .and_then(|(name, shards)| Some((name, shards.parse().ok()?)))
            .filter(|(name, shards)| !name.is_empty() && *shards > 0);
        match parsed {
            Some((name, shards)) => Ok(Self {
                name: name.to_owned(),
                shards,
            }),
            None => Err("use NAME:SHARDS, for example orders:4".to_owned()),
        }
    }
}

impl Options {
    /// Where to listen, if that is allowed.
    pub(crate) fn address(&self) -> Result<SocketAddr, String> {
        let Self {
            host, port, expose, ..
        } = self;
        if host.is_loopback() || *expose {
            return Ok(SocketAddr::new(*host, *port));
        }
        Err(format!(
            "{host} can be reached from other machines and there is no authentication; add --expose if you want that"
        ))
    }
}

/// Why the program ends before it starts.
#[derive(Debug)]
pub(crate) struct Stop(clap::Error);

impl Stop {
    /// Prints what there is to say: help as it is, a bad option as one line.
    pub(crate) fn tell(&self) -> ExitCode {
        let Self(error) = self;
        if !error.use_stderr() {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        let complaint: Vec<&str> = text
            .lines()
            .take_while(|line| !line.trim().is_empty())
            .map(str::trim)
            .collect();
        let complaint = complaint.join(" ");
        let complaint = complaint.strip_prefix("error: ").unwrap_or(&complaint);
        let _ = writeln!(io::stderr(), "kcl-emulator: {complaint}; see --help");
        ExitCode::from(2)
    }
}

pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, Stop> {
    Options::try_parse_from(arguments).map_err(Stop)
}

fn parse_host(host: &str) -> Result<IpAddr, String> {
    if host == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    host.parse()
        .map_err(|_| "use an IP address or localhost".to_owned())
}

fn parse_account(account: &str) -> Result<String, String> {
    if account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(account.to_owned())
    } else {
        Err("use twelve digits".to_owned())
    }
}

/// Watches for SIGINT and SIGTERM; the future ends at the first of them.
#[cfg(unix)]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Watches for Ctrl-C.
#[cfg(not(unix))]
pub(crate) fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
