//! Kinesis, DynamoDB and CloudWatch on one endpoint: a library, an in-process HTTP client, a server.
