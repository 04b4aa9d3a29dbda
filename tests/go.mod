module github.com/callmesh/callmesh/tests

go 1.26

require (
	github.com/callmesh/callmesh/kit v0.0.0
	github.com/callmesh/callmesh/proto v0.0.0
	github.com/callmesh/callmesh/gateway v0.0.0
	github.com/callmesh/callmesh/ivrd v0.0.0
	github.com/callmesh/callmesh/mediad v0.0.0
	github.com/callmesh/callmesh/recordingd v0.0.0
	github.com/callmesh/callmesh/sessiond v0.0.0
	github.com/callmesh/callmesh/allinone v0.0.0
	go.uber.org/goleak v1.3.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261019180522-ce908d29299b
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/callmesh/callmesh/kit => ../kit

replace github.com/callmesh/callmesh/proto => ../proto

replace golang.org/x/exp => golang.org/x/exp v0.0.0-20260908205506-85c1c2202aba

replace github.com/google/pprof => github.com/google/pprof v0.0.0-20260906184651-6331bc6350fe

replace github.com/callmesh/callmesh/gateway => ../gateway

replace github.com/callmesh/callmesh/ivrd => ../ivrd

replace github.com/callmesh/callmesh/mediad => ../mediad

replace github.com/callmesh/callmesh/recordingd => ../recordingd

replace github.com/callmesh/callmesh/sessiond => ../sessiond

replace github.com/callmesh/callmesh/allinone => ../allinone
