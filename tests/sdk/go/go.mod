// The tour of the official Go SDK: built by `cargo xtask official`.
module fanfare.test/tour

go 1.21

require github.com/svix/svix-webhooks v1.99.1

require github.com/google/uuid v1.6.0 // indirect
