import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;
import org.objectweb.asm.ClassReader;
import org.objectweb.asm.ClassVisitor;
import org.objectweb.asm.ClassWriter;
import org.objectweb.asm.FieldVisitor;
import org.objectweb.asm.MethodVisitor;
import org.objectweb.asm.Opcodes;
import org.objectweb.asm.Type;

/**
 * android.jar for what it is not made for, and what an app calls of it.
 *
 * <p>Platform newer IN LIST OUT: with the members of newer_api.txt, to compile against. Platform mock IN LIST OUT: the same
 * without `final`, where every method returns 0 or null instead of throwing, to run against. Platform calls JAR: prints each
 * class, method and field of android.* that the classes of a jar name, with the method that names it.
 */
public class Platform {
    private static final int API = Opcodes.ASM9;

    private record Member(String name, String descriptor, boolean isStatic, Object value) {}

    private static final Map<String, List<Member>> added = new LinkedHashMap<>();
    private static final Map<String, Boolean> made = new LinkedHashMap<>(); // new classes: is it an interface?

    public static void main(String[] arguments) throws IOException {
        if (arguments[0].equals("calls")) {
            calls(Path.of(arguments[1]));
            return;
        }
        readList(Path.of(arguments[2]));
        boolean mock = arguments[0].equals("mock");
        try (ZipFile jar = new ZipFile(arguments[1]);
                ZipOutputStream out = new ZipOutputStream(Files.newOutputStream(Path.of(arguments[3])))) {
            out.setLevel(1);
            for (ZipEntry entry : (Iterable<ZipEntry>) () -> jar.stream().map(e -> (ZipEntry) e).iterator()) {
                if (!entry.getName().endsWith(".class")) continue;
                ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_MAXS);
                new ClassReader(jar.getInputStream(entry).readAllBytes()).accept(new Changed(writer, mock), 0);
                write(out, entry.getName(), writer);
            }
            for (Map.Entry<String, Boolean> entry : made.entrySet()) {
                write(out, entry.getKey() + ".class", newClass(entry.getKey(), entry.getValue()));
            }
        }
    }

    private static void readList(Path list) throws IOException {
        for (String line : Files.readAllLines(list)) {
            if (line.startsWith("#")) continue;
            String[] words = line.split(" ");
            String owner = words[1];
            if (words[2].equals("class") || words[2].equals("interface")) {
                made.put(owner, words[2].equals("interface"));
                added.put(owner, new ArrayList<>());
                continue;
            }
            int bracket = words[2].indexOf('(');
            Member member =
                    bracket >= 0
                            ? new Member(words[2].substring(0, bracket), words[2].substring(bracket), words.length > 3, null)
                            : new Member(words[2], words[3], words.length > 4, words.length > 4 ? constant(words) : null);
            added.computeIfAbsent(owner, key -> new ArrayList<>()).add(member);
        }
    }

    private static Object constant(String[] words) {
        return words[3].equals("I") ? (Object) Integer.valueOf(words[4]) : words[4];
    }

    private static void write(ZipOutputStream out, String name, ClassWriter writer) throws IOException {
        out.putNextEntry(new ZipEntry(name));
        out.write(writer.toByteArray());
        out.closeEntry();
    }

    private static ClassWriter newClass(String name, boolean isInterface) {
        ClassWriter writer = new ClassWriter(ClassWriter.COMPUTE_MAXS);
        int kind = isInterface ? Opcodes.ACC_INTERFACE | Opcodes.ACC_ABSTRACT : Opcodes.ACC_SUPER;
        writer.visit(Opcodes.V1_8, Opcodes.ACC_PUBLIC | kind, name, null, "java/lang/Object", null);
        nest(writer, name);
        if (!isInterface) addMethod(writer, new Member("<init>", "()V", false, null), "java/lang/Object");
        for (Member member : added.get(name)) add(writer, member, isInterface, "java/lang/Object");
        writer.visitEnd();
        return writer;
    }

    private static void nest(ClassVisitor visitor, String name) {
        int dollar = name.lastIndexOf('$');
        if (dollar < 0) return;
        int access = Opcodes.ACC_PUBLIC | Opcodes.ACC_STATIC;
        visitor.visitInnerClass(name, name.substring(0, dollar), name.substring(dollar + 1), access);
    }

    private static void add(ClassVisitor visitor, Member member, boolean isInterface, String superName) {
        int access = Opcodes.ACC_PUBLIC | (member.isStatic ? Opcodes.ACC_STATIC : 0);
        if (!member.descriptor.startsWith("(")) {
            int constant = member.value == null ? 0 : Opcodes.ACC_FINAL;
            visitor.visitField(access | constant, member.name, member.descriptor, null, member.value).visitEnd();
        } else if (isInterface) {
            visitor.visitMethod(access | Opcodes.ACC_ABSTRACT, member.name, member.descriptor, null, null).visitEnd();
        } else {
            addMethod(visitor, member, superName);
        }
    }

    private static void addMethod(ClassVisitor visitor, Member member, String superName) {
        int access = Opcodes.ACC_PUBLIC | (member.isStatic ? Opcodes.ACC_STATIC : 0);
        body(visitor.visitMethod(access, member.name, member.descriptor, null, null), member.name, member.descriptor, superName);
    }

    /** A body that calls the superclass's plain constructor, if it is one, and returns 0 or null. */
    private static void body(MethodVisitor method, String name, String descriptor, String superName) {
        method.visitCode();
        if (name.equals("<init>") && superName != null) {
            method.visitVarInsn(Opcodes.ALOAD, 0);
            method.visitMethodInsn(Opcodes.INVOKESPECIAL, superName, "<init>", "()V", false);
        }
        Type result = Type.getReturnType(descriptor);
        switch (result.getSort()) {
            case Type.VOID -> {}
            case Type.LONG -> method.visitInsn(Opcodes.LCONST_0);
            case Type.FLOAT -> method.visitInsn(Opcodes.FCONST_0);
            case Type.DOUBLE -> method.visitInsn(Opcodes.DCONST_0);
            case Type.ARRAY, Type.OBJECT -> method.visitInsn(Opcodes.ACONST_NULL);
            default -> method.visitInsn(Opcodes.ICONST_0);
        }
        method.visitInsn(result.getOpcode(Opcodes.IRETURN));
        method.visitMaxs(0, 0);
        method.visitEnd();
    }

    /** A class of android.jar with what is added and, for running, without `final` and with bodies that return. */
    private static class Changed extends ClassVisitor {
        private final boolean mock;
        private final Set<String> constructors = new HashSet<>();
        private String name;
        private String superName;
        private boolean isInterface;
        private boolean isEnum;

        Changed(ClassVisitor next, boolean mock) {
            super(API, next);
            this.mock = mock;
        }

        @Override
        public void visit(int version, int access, String name, String signature, String superName, String[] interfaces) {
            this.name = name;
            this.superName = superName;
            isInterface = (access & Opcodes.ACC_INTERFACE) != 0;
            isEnum = (access & Opcodes.ACC_ENUM) != 0;
            int open = mock ? access & ~Opcodes.ACC_FINAL : access;
            super.visit(Math.max(version, Opcodes.V1_8), open, name, signature, superName, interfaces);
            for (String other : made.keySet()) if (other.startsWith(name + "$")) nest(cv, other);
            for (Member member : added.getOrDefault(name, List.of())) add(cv, member, isInterface, superName);
        }

        @Override
        public FieldVisitor visitField(int access, String name, String descriptor, String signature, Object value) {
            boolean open = mock && value == null && !isInterface && !isEnum;
            return super.visitField(open ? access & ~Opcodes.ACC_FINAL : access, name, descriptor, signature, value);
        }

        @Override
        public MethodVisitor visitMethod(int access, String name, String descriptor, String signature, String[] exceptions) {
            if (name.equals("<init>")) constructors.add(descriptor);
            if (!mock || isEnum || name.equals("<clinit>") || (access & Opcodes.ACC_ABSTRACT) != 0) {
                return super.visitMethod(access, name, descriptor, signature, exceptions);
            }
            int open = access & ~(Opcodes.ACC_FINAL | Opcodes.ACC_NATIVE | Opcodes.ACC_PRIVATE);
            if (name.equals("<init>")) open = (open & ~Opcodes.ACC_PROTECTED) | Opcodes.ACC_PUBLIC;
            body(super.visitMethod(open, name, descriptor, signature, exceptions), name, descriptor, superName);
            return null;
        }

        @Override
        public void visitEnd() {
            // Subclasses call the plain constructor, whatever others there are.
            if (mock && !isInterface && !isEnum && !constructors.contains("()V")) {
                addMethod(cv, new Member("<init>", "()V", false, null), superName);
            }
            super.visitEnd();
        }
    }

    private static final Map<String, String> superclasses = new LinkedHashMap<>();
    private static final Set<String> defined = new HashSet<>(); // "owner.member" of the jar's own

    private static void calls(Path path) throws IOException {
        List<byte[]> classes = new ArrayList<>();
        try (ZipFile jar = new ZipFile(path.toFile())) {
            for (ZipEntry entry : (Iterable<ZipEntry>) () -> jar.stream().map(e -> (ZipEntry) e).iterator()) {
                if (entry.getName().endsWith(".class")) classes.add(jar.getInputStream(entry).readAllBytes());
            }
        }
        for (byte[] each : classes) new ClassReader(each).accept(new Definitions(), ClassReader.SKIP_CODE);
        Set<String> found = new TreeSet<>();
        for (byte[] each : classes) new ClassReader(each).accept(new Calls(found), ClassReader.SKIP_FRAMES);
        found.forEach(System.out::println);
    }

    private static class Definitions extends ClassVisitor {
        private String name;

        Definitions() {
            super(API);
        }

        @Override
        public void visit(int version, int access, String name, String signature, String superName, String[] interfaces) {
            this.name = name;
            superclasses.put(name, superName);
        }

        @Override
        public MethodVisitor visitMethod(int access, String method, String descriptor, String signature, String[] exceptions) {
            defined.add(name + "." + method + descriptor);
            return null;
        }

        @Override
        public FieldVisitor visitField(int access, String field, String descriptor, String signature, Object value) {
            defined.add(name + "." + field + descriptor);
            return null;
        }
    }

    /** Notes "owner member descriptor class.method" of each method and field of android.*; of a class that is named "owner". */
    private static class Calls extends ClassVisitor {
        private final Set<String> found;
        private String name;

        Calls(Set<String> found) {
            super(API);
            this.found = found;
        }

        @Override
        public void visit(int version, int access, String name, String signature, String superName, String[] interfaces) {
            this.name = name;
            note(superName, "", "", "");
            for (String each : interfaces) note(each, "", "", "");
        }

        private void note(String named, String member, String descriptor, String method) {
            // A method of the app's own class may be its superclass's.
            String owner = named;
            while (superclasses.containsKey(owner) && !defined.contains(owner + "." + member + descriptor)) {
                owner = superclasses.get(owner);
            }
            if (owner.startsWith("android/")) {
                found.add(String.join(" ", owner, member, descriptor, name + "." + method));
            }
        }

        @Override
        public MethodVisitor visitMethod(int access, String method, String descriptor, String signature, String[] exceptions) {
            return new MethodVisitor(API) {
                @Override
                public void visitMethodInsn(int opcode, String owner, String member, String type, boolean isInterface) {
                    note(owner, member, type, method);
                }

                @Override
                public void visitFieldInsn(int opcode, String owner, String member, String type) {
                    note(owner, member, type, method);
                }

                @Override
                public void visitTypeInsn(int opcode, String type) {
                    note(type, "", "", method);
                }
            };
        }
    }
}
