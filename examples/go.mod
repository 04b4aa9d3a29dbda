module github.com/callmesh/callmesh/examples

go 1.26
