"""What leaves the ledger: files, FOCUS, OpenTelemetry, Prometheus, a Grafana dashboard. No record is changed here."""
