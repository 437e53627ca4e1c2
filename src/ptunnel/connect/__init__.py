"""One hop by CONNECT: request and answer as bytes, the attempt."""
