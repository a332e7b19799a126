//! The emulator as a server.

mod options;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use kcl_emulator::Emulator;
use kcl_emulator::faults::FaultScript;
use tokio::net::TcpListener;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use options::{Options, StreamToCreate};

fn main() -> ExitCode {
    let options = match options::parse(std::env::args_os()) {
        Ok(options) => options,
        Err(stop) => return stop.tell(),
    };
    start_logging();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "kcl-emulator: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr as `RUST_LOG` says, warnings and errors by default: stdout has the ready line.
fn start_logging() {
    let chosen = std::env::var("RUST_LOG").ok();
    let chosen = chosen.and_then(|text| text.parse::<Targets>().ok());
    let output = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(output)
        .with(chosen.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN)))
        .init();
}

fn run(options: Options) -> Result<(), String> {
    let address = options.address()?;
    let script = options.faults.as_deref().map(read_script).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(async move {
        let emulator = build(&options, script);
        for StreamToCreate { name, shards } in &options.create_stream {
            emulator
                .create_stream(name, *shards)
                .map_err(|error| format!("cannot create the stream {name}: {error}"))?;
        }
        serve(&emulator, address).await
    })
}

fn build(options: &Options, script: Option<FaultScript>) -> Emulator {
    let emulator = Emulator::builder()
        .wall_clock()
        .throttling(options.throttling.is_on())
        .transition(options.transition)
        .table_transition(options.table_transition)
        .seed(options.seed)
        .region(&options.region)
        .account(&options.account_id)
        .build();
    emulator.faults().run(script.unwrap_or_default());
    emulator
}

fn read_script(path: &std::path::Path) -> Result<FaultScript, String> {
    let json = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    FaultScript::from_json(&json).map_err(|error| format!("{}: {error}", path.display()))
}

async fn serve(emulator: &Emulator, address: SocketAddr) -> Result<(), String> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another port with --port (0 picks a free one)")
    })?;
    let bound = listener
        .local_addr()
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let stopped =
        options::stop_signal().map_err(|error| format!("cannot watch signals: {error}"))?;
    if !bound.ip().is_loopback() {
        let _ = writeln!(
            std::io::stderr(),
            "kcl-emulator: exposed on {bound} without authentication: whoever reaches it can read and change \
             every stream and table"
        );
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "kcl-emulator ready: http://{bound}")
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot write to stdout: {error}"))?;
    emulator.serve(listener, stopped).await;
    Ok(())
}
