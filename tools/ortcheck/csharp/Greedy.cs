// Greedy tokens of an exported model in a C# program, through ONNX Runtime's C
// interface, as its own C# package calls it.
//
//     mono Greedy.exe MODEL OPERATORS|- VOCAB LAYERS HEADS DIM COUNT ID...
//
// libonnxruntime.so must be where the system looks for libraries. Prints COUNT
// ids, one a line. Each call takes the whole sequence, with an empty past.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;

static class Greedy
{
    [StructLayout(LayoutKind.Sequential)]
    struct Base { public IntPtr GetApi, GetVersionString; }

    [DllImport("libonnxruntime.so")] static extern IntPtr OrtGetApiBase();

    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr GetApi(uint version);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Message(IntPtr status);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr CreateEnv(int level, byte[] id, out IntPtr env);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr New(out IntPtr made);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Load(IntPtr env, byte[] path, IntPtr options, out IntPtr session);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Register(IntPtr options, byte[] path);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Memory(int allocator, int type, out IntPtr info);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Tensor(IntPtr info, IntPtr data, UIntPtr bytes, long[] shape, UIntPtr rank, int type, out IntPtr value);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate IntPtr Data(IntPtr value, out IntPtr data);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)] delegate void Release(IntPtr value);
    [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
    delegate IntPtr Run(IntPtr session, IntPtr options, IntPtr[] names, IntPtr[] inputs, UIntPtr n, IntPtr[] outNames, UIntPtr outputs, IntPtr[] values);

    static IntPtr api;

    // A function stands at a place of the table for good.
    static T At<T>(int place)
    {
        return (T)(object)Marshal.GetDelegateForFunctionPointer(Marshal.ReadIntPtr(api, place * IntPtr.Size), typeof(T));
    }

    static void Must(IntPtr status)
    {
        if (status == IntPtr.Zero) return;
        throw new Exception(Marshal.PtrToStringAnsi(At<Message>(2)(status)));
    }

    static byte[] Text(string s) { return Encoding.UTF8.GetBytes(s + "\0"); }

    static IntPtr Name(string s)
    {
        var b = Text(s);
        var p = Marshal.AllocHGlobal(b.Length);
        Marshal.Copy(b, 0, p, b.Length);
        return p;
    }

    const int Float = 1, Int64 = 7;

    static int Main(string[] args)
    {
        try { Generate(args); return 0; }
        catch (Exception e) { Console.Error.WriteLine("greedy: " + e.Message); return 1; }
    }

    static void Generate(string[] args)
    {
        int vocab = int.Parse(args[2]), layers = int.Parse(args[3]), heads = int.Parse(args[4]), dim = int.Parse(args[5]), count = int.Parse(args[6]);
        var ids = args.Skip(7).Select(long.Parse).ToList();

        var table = (Base)Marshal.PtrToStructure(OrtGetApiBase(), typeof(Base));
        api = ((GetApi)Marshal.GetDelegateForFunctionPointer(table.GetApi, typeof(GetApi)))(17);
        IntPtr env, options, session, memory;
        Must(At<CreateEnv>(3)(3, Text("greedy"), out env));
        Must(At<New>(10)(out options));
        if (args[1] != "-") Must(At<Register>(228)(options, Text(args[1])));
        Must(At<Load>(7)(env, Text(args[0]), options, out session));
        Must(At<Memory>(69)(1, 0, out memory));

        var names = new List<IntPtr> { Name("input_ids"), Name("attention_mask") };
        for (int i = 0; i < layers; i++)
        {
            names.Add(Name("past_key_values." + i + ".key"));
            names.Add(Name("past_key_values." + i + ".value"));
        }
        var logits = new[] { Name("logits") };
        var nothing = Marshal.AllocHGlobal(64);

        for (int made = 0; made < count; made++)
        {
            var mask = Enumerable.Repeat(1L, ids.Count).ToArray();
            var pinned = new[] { GCHandle.Alloc(ids.ToArray(), GCHandleType.Pinned), GCHandle.Alloc(mask, GCHandleType.Pinned) };
            var inputs = new IntPtr[names.Count];
            for (int i = 0; i < inputs.Length; i++)
            {
                var shape = i < 2 ? new long[] { 1, ids.Count } : new long[] { 1, heads, 0, dim };
                var data = i < 2 ? pinned[i].AddrOfPinnedObject() : nothing;
                var bytes = new UIntPtr(i < 2 ? (ulong)ids.Count * 8 : 0);
                Must(At<Tensor>(49)(memory, data, bytes, shape, new UIntPtr((uint)shape.Length), i < 2 ? Int64 : Float, out inputs[i]));
            }
            var values = new IntPtr[1];
            Must(At<Run>(9)(session, IntPtr.Zero, names.ToArray(), inputs, new UIntPtr((uint)inputs.Length), logits, new UIntPtr(1), values));
            IntPtr at;
            Must(At<Data>(51)(values[0], out at));
            var row = new float[vocab]; // the model shows the last position only
            Marshal.Copy(at, row, 0, vocab);
            int best = 0;
            for (int i = 1; i < vocab; i++) if (row[i] > row[best]) best = i;
            Console.WriteLine(best);
            ids.Add(best);
            foreach (var v in inputs.Concat(values)) At<Release>(96)(v);
            foreach (var p in pinned) p.Free();
        }
        At<Release>(95)(session);
        At<Release>(100)(options);
        At<Release>(92)(env);
    }
}
