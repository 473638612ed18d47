// Package e2e tests the whole program, as it is built for a release, on the
// hosts of a lab. Its tests run in the module's root directory.
package e2e
