#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| serf_rpc::fuzzing::session(data));
