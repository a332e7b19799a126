//! The demo of a fleet, as a process with a short script.

use crate::common::{Account, FLEET_DEMO, finish};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_by_itself_and_tells_in_plain_lines_what_happened() {
    let account = Account::with_stream(1).await;
    let options = ["--step", "1500ms", "--lease-duration", "1s"];
    let child = account.program(FLEET_DEMO, "demo", &options).spawn();
    let output = finish(child.unwrap()).await;
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert!(!stdout.contains('\x1b'), "{stdout}");
    for told in [
        "is killed",
        "is started",
        "is split",
        "is complete",
        "is told to stop",
    ] {
        assert!(stdout.contains(told), "{told}: {stdout}");
    }
    let summary = stdout.lines().next_back().unwrap();
    assert!(summary.contains("missing 0"), "{stdout}");
    assert!(!summary.starts_with("put 0"), "{stdout}");
}
