// Package scenario holds the scenarios of callmesh as its users see it: phones
// call in, applications answer callbacks, clients use REST. Each is written
// once and passes on every deployment.
package scenario
